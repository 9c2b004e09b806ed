"""moto, a server that speaks S3, behind a door.

moto lets everybody in. So what comes is looked at first, with the signatures of
botocore, Amazon's own library: who signed it, for which region, and when. Knows
one access key. Listens on a free port of 127.0.0.1, says which on its first line,
and ends when its standard input does.
"""

import datetime
import os
import sys
import threading
from urllib.parse import parse_qsl

from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

KEY, SECRET, REGION = "the-access-key", "the-secret-of-the-access-key/+", "eu-test-1"
WITH_BODY = "<?xml version='1.0' encoding='UTF-8'?>\n<Error><Code>%s</Code><Message>%s</Message>%s</Error>"


def refusal(environ):
    """Status, code and more of S3's error for a request that may not come in."""
    query = dict(parse_qsl(environ["QUERY_STRING"], keep_blank_values=True))
    if "X-Amz-Signature" not in query:
        return "403 Forbidden", "AccessDenied", ""
    access_key, _, region, _, _ = query["X-Amz-Credential"].split("/")
    if access_key != KEY:
        return "403 Forbidden", "InvalidAccessKeyId", ""
    if region != REGION:
        return "400 Bad Request", "AuthorizationQueryParametersError", f"<Region>{REGION}</Region>"
    if query["X-Amz-Signature"] != signature(environ, query):
        return "403 Forbidden", "SignatureDoesNotMatch", ""
    signed = datetime.datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ")
    age = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None) - signed
    if abs(age.total_seconds()) > int(query["X-Amz-Expires"]):
        return "403 Forbidden", "AccessDenied", ""
    return None


def signature(environ, query):
    unsigned = "&".join(it for it in environ["QUERY_STRING"].split("&") if not it.startswith("X-Amz-Signature="))
    path = environ["RAW_URI"].split("?")[0]
    host = environ["HTTP_HOST"]
    request = AWSRequest(method=environ["REQUEST_METHOD"], url=f"http://{host}{path}?{unsigned}", headers={"host": host})
    request.context["timestamp"] = query["X-Amz-Date"]
    signer = S3SigV4QueryAuth(Credentials(KEY, SECRET), "s3", REGION)
    return signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)


def door(inner):
    def serve(environ, start):
        refused = None if "HTTP_X_TEST" in environ else refusal(environ)
        if refused is None:
            return inner(environ, start)
        # The body is read, so that whoever sends it gets to the answer.
        rest = int(environ.get("CONTENT_LENGTH") or 0)
        while rest > 0:
            rest -= len(environ["wsgi.input"].read(min(rest, 1 << 20))) or rest
        status, code, more = refused
        body = (WITH_BODY % (code, "Refused by the door.", more)).encode()
        start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
        return [body]

    return serve


class Quiet(WSGIRequestHandler):
    def log_request(self, *_):
        pass


def end_with_stdin():
    sys.stdin.read()
    os._exit(0)


server = make_server("127.0.0.1", 0, door(DomainDispatcherApplication(create_backend_app)), True, request_handler=Quiet)
print(server.port, flush=True)
threading.Thread(target=end_with_stdin, daemon=True).start()
server.serve_forever()
