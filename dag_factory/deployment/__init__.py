"""A production-like installation as data: its processes and settings, from which docker-compose.yaml, the values of the Helm
chart, the tables of docs/deploy.md and `make fleet` are made."""
