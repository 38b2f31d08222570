"""The arithmetic of both papers, each as a plain reference and as a fast form with equal results."""
