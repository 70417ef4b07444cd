"""Who somebody is. base.py is the seam; one module per kind of directory."""
