"""As much of curl as the README uses, for machines without it. What it does not know, it refuses."""

import http.client
import ssl
import sys
from pathlib import Path
from urllib.parse import urlsplit

WITH_VALUE = {"--cacert", "-H", "-w", "-d", "-X", "-o"}
WITHOUT_VALUE = {"-sS", "-I"}


def main(arguments: list[str]) -> None:
    given: dict[str, list[str]] = {}
    urls: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument in WITH_VALUE:
            given.setdefault(argument, []).append(next(rest))
        elif argument in WITHOUT_VALUE:
            given[argument] = []
        elif argument.startswith("-"):
            raise SystemExit(f"the stand-in for curl does not know {argument}")
        else:
            urls.append(argument)
    (url,) = urls
    parts = urlsplit(url)
    assert parts.scheme == "https"
    assert parts.hostname is not None
    (authority,) = given["--cacert"]
    connection = http.client.HTTPSConnection(
        parts.hostname, parts.port, timeout=30, context=ssl.create_default_context(cafile=authority)
    )
    headers = dict(header.split(": ", 1) for header in given.get("-H", ()))
    headers = {"User-Agent": "curl/0.0.0", **{name: value for name, value in headers.items() if value}}
    (body,) = given.get("-d", [None])
    (method,) = given.get("-X", ["HEAD" if "-I" in given else "GET" if body is None else "POST"])
    connection.request(method, f"{parts.path}?{parts.query}" if parts.query else parts.path, body=body, headers=headers)
    answer = connection.getresponse()
    if "-I" in given:
        sys.stdout.write(f"HTTP/1.1 {answer.status} {answer.reason}\r\n")
        sys.stdout.writelines(f"{name}: {value}\r\n" for name, value in answer.getheaders())
        sys.stdout.write("\r\n")
    content = answer.read().decode()
    if "-o" in given:
        Path(given["-o"][0]).write_text(content)
    else:
        sys.stdout.write(content)
    (form,) = given.get("-w", [""])
    sys.stdout.write(form.replace("\\n", "\n").replace("%{http_code}", str(answer.status)))
    connection.close()


if __name__ == "__main__":
    main(sys.argv[1:])
