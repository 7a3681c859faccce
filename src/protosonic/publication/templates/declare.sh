#!/bin/bash
# Declares this publication to MetaCat and puts its files into Rucio. Written by protosonic {{ version }}.
# It has never run against a real catalog: read it, then run it in this folder, once, with the clients of your
# experiment set up and authenticated (metacat auth login; rucio whoami), and RSE set to a storage element.
set -eu
cd "$(dirname "$0")"
{% if missing %}
echo "DUNE's MetaCat requires {{ missing | join(', ') }}: run protosonic publish again with --metadata FILE that gives them" >&2
exit 2
{% endif %}
: "${RSE:?set it to the Rucio storage element that takes the files}"
sha256sum --check --quiet checksums.sha256

# Rucio: a file that is there already is left alone. Links give the files the names that they have in the catalog.
links=$(mktemp --directory)
trap 'rm -r "$links"' EXIT
{% for name, path in files %}
ln --symbolic "$PWD/"{{ path | quoted }} "$links/"{{ name | quoted }}
rucio upload --rse "$RSE" --scope {{ namespace | quoted }} {{ (namespace ~ ":" ~ dataset) | quoted }} "$links/"{{ name | quoted }}
{% endfor %}

# MetaCat: the input files must be declared before, because they are the parents.
metacat dataset show {{ (namespace ~ ":" ~ dataset) | quoted }} >/dev/null 2>&1 || metacat dataset create {{ (namespace ~ ":" ~ dataset) | quoted }}
metacat file declare-many metacat.json {{ (namespace ~ ":" ~ dataset) | quoted }}
