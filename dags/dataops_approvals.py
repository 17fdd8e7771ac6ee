from dag_factory.loader import load_approvals

load_approvals(globals())  # one Airflow dag: a run for each question about held drift
