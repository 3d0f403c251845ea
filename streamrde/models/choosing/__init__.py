"""Families of models that torch trains, compared with others on the same folds."""
