"""Where accepted mail is held until each recipient has an outcome. base.py says what a spool promises."""
