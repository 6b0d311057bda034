"""What the command line runs that belongs to no single system."""
