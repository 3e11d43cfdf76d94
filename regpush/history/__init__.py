"""Earlier images in the repository, and what they tell about the layers of this push."""
