"""Whether an Airflow is configured for so many rows: facts gathered at the edge, rules over plain data."""
