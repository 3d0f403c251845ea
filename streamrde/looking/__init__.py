"""Look at data of unknown form and write a configuration for it, with the evidence of each guess."""
