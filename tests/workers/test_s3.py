import json
from pathlib import Path

import pytest
from pydantic import SecretStr

from tests.workers.house import Broker, House, wait_for


def test_jobs_run_on_an_s3_store(tmp_path: Path, broker: Broker) -> None:
    moto = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    region = {"region_name": "eu-west-1"}
    options = {"endpoint_url": f"http://{host}:{port}", "key": "k", "secret": "s", "client_kwargs": region}
    s3fs.S3FileSystem(**options).makedirs("jobs-bucket")  # the fake store is shared by a whole process
    url, told = SecretStr("s3://jobs-bucket/synthward"), SecretStr(json.dumps(options))
    house = House(tmp_path, broker, artifacts_url=url, artifacts_options=told)
    house.start()
    try:
        whole = house.post(rows=150_000, evaluation={"enabled": True, "holdout": 0.3})
        shared = house.post(rows=150_000, replicates=2, queue="heavy")
        failed = house.post(options={"trouble": "raise"})
        assert house.wait(whole).status == "succeeded"
        assert house.wait(shared).status == "succeeded"
        assert house.bytes_of(shared)[:2] == house.bytes_of(whole)
        assert len(house.files(whole)) == 4
        house.wait(failed)
        assert wait_for(lambda: house.files(failed) == [])
    finally:
        house.close()
        server.stop()
