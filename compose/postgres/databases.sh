#!/bin/sh
# Makes a database for each service that has its own role. PostgreSQL's image runs it once, when its
# volume is empty.
set -eu

make_database() {
    NEW_PASSWORD=$2 psql --quiet --set ON_ERROR_STOP=1 --username postgres --set name="$1" <<'SQL'
\getenv password NEW_PASSWORD
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE CONNECT ON DATABASE :"name" FROM PUBLIC;
SQL
}

make_database langfuse "$LANGFUSE_DB_PASSWORD"
make_database labelstudio "$LABEL_STUDIO_DB_PASSWORD"
