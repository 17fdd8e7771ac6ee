from dag_factory.loader import load_dags

load_dags(globals())  # one Airflow dag per row of the inventory
