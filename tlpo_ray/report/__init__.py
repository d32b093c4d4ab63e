"""What runs and experiments show: tables, figures and one self-contained page."""
