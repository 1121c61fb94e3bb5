#!/bin/sh
# Ask the service whose a token is (RFC 7662), as a service in any language can. The token comes on standard input:
#
#     pickguard service-credential shop --append services.credentials
#     pickguard serve --service-credentials services.credentials
#     printf %s "$TOKEN" | PICKGUARD_SERVICE_SECRET=pgs_… sh examples/introspection.sh
#
# Neither token nor secret is an argument of curl, where other users of the machine could read it.
set -eu

url=${PICKGUARD_URL:-https://127.0.0.1:9443}
ca=${PICKGUARD_CA:-pickguard-data/tls/cert.pem}

exec 3<<CONFIG
user = "shop:$PICKGUARD_SERVICE_SECRET"
CONFIG
curl --silent --show-error --fail --max-time 10 --config /dev/fd/3 --cacert "$ca" --data-urlencode token@- "$url/v1/introspection"
