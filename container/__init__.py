"""What the containers of docker-compose.yml run, around the service and around a preparation."""
