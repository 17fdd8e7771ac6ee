from dag_factory.loader import load_maintenance

load_maintenance(globals())  # one Airflow dag for all rows: finish, show, expire, and tell what is late
