"""The two papers' arithmetic, each as a plain reference and as a fast form that equals it."""
