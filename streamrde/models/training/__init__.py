"""Training from recorded files: what to do (config), the data (recordings, examples), the fit, and what came of it."""
