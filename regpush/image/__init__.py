"""The records of a layer and of an image, and their JSON."""
