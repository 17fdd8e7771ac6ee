from dag_factory.onboard.loader import load_onboard

load_onboard(globals())  # one Airflow dag: a form that adds a source to the inventory
