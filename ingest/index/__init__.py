"""Where chunks go to be found."""
