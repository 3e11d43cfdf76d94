"""What was pushed before, and what it says about the layers of this push."""
