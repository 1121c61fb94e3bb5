"""``python -m tools.site`` serves the site and builds it again at each change; with --check it builds it once, strictly."""

import os
import subprocess
import sys

CONFIGURATION = ["--strict", "--config-file", "mkdocs.yml"]

if __name__ == "__main__":
    arguments = sys.argv[1:]
    command = ["build", "--clean"] if arguments == ["--check"] else ["serve", *arguments]
    # The theme tells at each build that it is maintained until May 2027 and what comes after it.
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    sys.exit(
        subprocess.run([sys.executable, "-m", "mkdocs", *command, *CONFIGURATION], env=environment, check=False).returncode
    )
