"""`sama bench`: what the estimators cost, beside plain training and in one run with it."""
