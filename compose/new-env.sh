#!/bin/sh
# Writes .env from .env.example, with a random value for every secret that is empty, and the file from
# which Prometheus reads its key. Run again, it keeps what is there and fills in what is missing.
#
#   sh new-env.sh          for NVIDIA GPUs
#   sh new-env.sh --cpu    without
set -eu
cd "$(dirname "$0")"
umask 077

case "${1-}" in
    "") files= ;;
    --cpu) files=docker-compose.yml:docker-compose.cpu.yml ;;
    --gpu) files=docker-compose.yml:docker-compose.gpu.yml ;;
    *)
        echo "new-env.sh: what is ${1}? It takes --cpu, --gpu or nothing." >&2
        exit 2
        ;;
esac

random_hex() {
    od -An -N "$1" -tx1 /dev/urandom | tr -d ' \n'
}

# The secret of a name; nothing where the name is none of a secret.
secret() {
    case "$1" in
        LANGFUSE_PUBLIC_KEY) echo "pk-lf-$(random_hex 16)" ;;
        LANGFUSE_SECRET_KEY) echo "sk-lf-$(random_hex 16)" ;;
        LANGFUSE_ENCRYPTION_KEY) random_hex 32 ;;
        LABEL_STUDIO_API_KEY) random_hex 20 ;;
        *_PASSWORD | *_API_KEY | *_SECRET | *_SALT) random_hex 24 ;;
    esac
}

# The lines of .env, then those of .env.example whose names are not in it.
lines() {
    if [ -e .env ]; then
        awk 1 .env # also ends a last line that has no end
        while IFS= read -r line; do
            case "$line" in
                "#"* | "") ;;
                *) grep -q "^${line%%=*}=" .env || echo "$line" ;;
            esac
        done <.env.example
    else
        cat .env.example
    fi
}

lines | while IFS= read -r line; do
    case "$line" in
        COMPOSE_FILE=*) [ -z "$files" ] || line="COMPOSE_FILE=$files" ;;
        [A-Z]*=) line="$line$(secret "${line%=}")" ;;
    esac
    printf '%s\n' "$line"
done >.env.new
mv .env.new .env

# Prometheus reads it as a user of its own, so others may read the file; the folder is closed to them.
mkdir -p secrets
chmod 700 secrets
sed -n 's/^METRICS_API_KEY=//p' .env | tr -d '\n' >secrets/metrics_api_key
chmod 644 secrets/metrics_api_key

echo "wrote compose/.env and compose/secrets/metrics_api_key"
