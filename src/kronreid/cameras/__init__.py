"""Cameras: videos and streams become tracklets of people in a gallery."""
