"""A token goes with every request to each of Google's services: the machine's own (workload
identity), which is kept fresh, or one that a key file signs."""

import contextlib
import json

import pytest

from emulators.identity import Certificates, Front, Metadata, Signed, private_key
from service import lake_files, until
from test_bigquery import Warehouse, until_loaded

pytestmark = pytest.mark.needs("openssl")
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
EMAIL = "e@p.iam.gserviceaccount.com"
# A token of less than four minutes is asked for again after ten seconds.
LIFE_S = 12
LAKE = """
[google]
project = "{project}"
[store]
bucket = "gs://{bucket}"
prefix = "{name}"
endpoint = "{gcs.endpoint}"
[load]
age_max = "200ms"
[warehouse]
kind = "bigquery"
dataset = "{name}"
endpoint = "{bigquery.endpoint}"
interval = "300ms"
"""
DOCUMENTS = """
[google]
project = "{project}"
[store]
kind = "firestore"
collection = "{name}"
endpoint = "{firestore.endpoint}"
"""


class Stores:
    """A service with a lake and a warehouse, and one with documents, of a machine that trusts the
    fronts of all three."""

    def __init__(self, make_service, tmp_path, gcs, bigquery, firestore, name):
        self.gcs, self.firestore, self.name = gcs, firestore, name
        self.plain = {"gcs": gcs.endpoint, "bigquery": bigquery.endpoint,
                      "firestore": f"http://{firestore.host}"}
        self.warehouse = Warehouse(bigquery, name).create()
        self.certificates = Certificates(tmp_path / "tls")
        self.services = [make_service(tmp_path / kind) for kind in ("lake", "documents")]

    @contextlib.contextmanager
    def behind(self, accepts, **environment):
        """Yields the fronts, who accept those tokens."""
        with contextlib.ExitStack() as stack:
            fronts = {name: stack.enter_context(Front(to, accepts).serve(self.certificates))
                      for name, to in self.plain.items()}
            for service, text in zip(self.services, (LAKE, DOCUMENTS), strict=True):
                about = {"bucket": self.gcs.bucket, "project": self.firestore.project,
                         "name": self.name}
                service.configure(text.format(**fronts, **about))
                service.environment = environment | {
                    "SSL_CERT_FILE": str(self.certificates.authority),
                    "HOME": str(service.home),  # where gcloud has written nothing
                }
            yield list(fronts.values())
            for service in self.services:
                if service.process:
                    service.kill()

    def check(self):
        for service in self.services:
            assert "can start" in service.cli("check")

    def start(self):
        for service in self.services:
            service.start()

    def store(self, count):
        """An event more, so that there are so many; each is a row, and a document."""
        for service in self.services:
            service.collect({"messageId": f"m{count}", "userId": "u"}, "events")
            service.flush()
        until_loaded(self.warehouse, count)
        assert len(lake_files(self.gcs.directory / self.name)) == count
        assert len(self.firestore.documents(f"{self.name}/events/events")) == count


@pytest.fixture
def stores(make_service, tmp_path, gcs, bigquery, firestore, request):
    return Stores(make_service, tmp_path, gcs, bigquery, firestore, "w" + request.node.name[-40:])


def test_the_machines_own_token_is_shown_to_every_service_and_replaced_when_it_expires(stores):
    metadata = Metadata(LIFE_S)
    with (
        metadata.serve(),
        stores.behind(metadata.accepts, GCE_METADATA_HOST=metadata.host) as fronts,
    ):
        stores.check()
        assert all(front.seen for front in fronts)
        stores.start()
        stores.store(1)
        old = set(metadata.until)
        until("they have expired", lambda: not any(map(metadata.accepts, old)), every=0.2)
        stores.store(2)
        for front in fronts:
            assert set(front.seen) & old and front.seen[-1] not in old
            assert front.refused == [], "what had expired was shown, or nothing"


def test_a_key_files_own_tokens_are_shown_to_every_service(stores, tmp_path):
    key = private_key(tmp_path / "key.pem")
    file = tmp_path / "key.json"
    file.write_text(json.dumps({
        "type": "service_account", "project_id": "p", "private_key_id": "k1",
        "private_key": key.read_text(), "client_email": EMAIL,
        "token_uri": "https://127.0.0.1:9/token",
    }))
    signed = Signed(key, EMAIL, "k1")
    with stores.behind(signed.accepts, GOOGLE_APPLICATION_CREDENTIALS=str(file)) as fronts:
        stores.check()
        stores.start()
        stores.store(1)
        for front in fronts:
            assert front.seen and front.refused == []
    assert {claims["scope"] for claims in signed.claims} == {SCOPE}


def test_who_has_nothing_to_show_that_a_service_takes_is_told_so_by_each(stores):
    metadata = Metadata(LIFE_S)
    with (
        metadata.serve(),
        stores.behind(lambda _: False, GCE_METADATA_HOST=metadata.host) as fronts,
    ):
        for service in stores.services:
            checked = service.run("check")
            assert checked.returncode == 74 and "credentials" in checked.stdout, checked
        for front in fronts:
            assert front.refused and front.seen == []
            assert set(front.refused) <= {f"Bearer {token}" for token in metadata.until}
