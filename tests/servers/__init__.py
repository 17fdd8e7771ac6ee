"""Real servers for the tests: PostgreSQL, MariaDB and S3 (versitygw), without a container engine.

Each module starts one kind as a plain process on 127.0.0.1 and a free port, with its data in a temporary folder.
`shared` starts one of each per test run, whatever the number of pytest workers, and stops them even after kill -9.
"""
