"""Names of the columns that a run adds to the dataset."""

WEIGHT_COLUMN = "sama_weight"
LABEL_COLUMN = "sama_label"
