"""What the driver of executor ``ray`` decides without a cluster: GPUs, its own stages, variables of workers."""

from __future__ import annotations

import pytest

from harness.contracts.executor import Resources, StageOptions
from harness.contracts.options import options_from
from harness.contracts.stage import Stage
from harness.errors import UserError
from harness.run.ray_options import RayOptions, handed


@pytest.mark.parametrize(("gpus", "expected"), [((), ["4", "GPU-5a", "6"]), ((2, 0), ["6", "4"])])
def test_a_cluster_that_is_started_here_has_all_gpus_where_the_recipe_names_none(
    gpus: tuple[int, ...], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = pytest.importorskip("harness.run.ray_driver", reason="needs ray: tox -e ray", exc_type=ImportError)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-5a,6")
    assert driver.granted_gpus(Resources(1, 1, gpus)) == expected
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert driver.granted_gpus(Resources(1, 1)) == []


def test_stages_on_the_drivers_machine_get_what_the_recipe_says_but_for_gpus() -> None:
    driver = pytest.importorskip("harness.run.ray_driver", reason="needs ray: tox -e ray", exc_type=ImportError)
    resources = Resources(2, 1, (0, 1), {"judge": StageOptions(2, 8, 40, 5)}, cluster_gpus=True)
    stages = [Stage("judge", {}, local={"ask": {}, "gpus": 1}), Stage("answer", {}, local={"ask": {}})]
    assert [tuple(driver.beside_the_cluster(resources).of(stage)) for stage in stages] == [
        (0, 8, 40, 5), (0, 1, None, 1),
    ]  # fmt: skip


def test_secrets_do_not_enter_a_cluster() -> None:
    """All users of a cluster can read these, whether a name or a value gives the secret away."""
    plain = {
        "HF_HOME": "/a", "AWS_REGION": "b", "FSSPEC_S3_ENDPOINT_URL": "http://c:1/d@e", "PYTHONPATH": "/f",
        "TRANSFORMERS_CACHE": "g", "DISTILBENCH_ASSETS": "",
    }  # fmt: skip
    names = (
        "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "DISTILBENCH_PASS", "HF_AUTH", "FSSPEC_FTP_PASSWORD", "AWS_CREDENTIALS",
        "FSSPEC_ABFS_CONNECTION_STRING", "FSSPEC_HTTP_AUTHORIZATION", "fsspec_s3_secret",
    )  # fmt: skip
    values = {"FSSPEC_S3": ' {"secret": "h"}', "HF_ENDPOINT": "https://me:pass@mirror/x"}
    others = {"HOME": "/", "MY_HF_HOME": "i", "OMP_NUM_THREADS": "3"}
    environment = {**plain, **dict.fromkeys(names, "x"), **values, **others}
    assert handed(environment, ()) == plain
    assert handed(environment, ("HOME", "FSSPEC_S3", "absent")) == {
        **plain,
        "HOME": "/",
        "FSSPEC_S3": values["FSSPEC_S3"],
    }
    for name in ("MY_PASS", "X_AUTH", "CREDENTIALS", "my_key"):
        with pytest.raises(UserError, match=f"{name} looks like a secret"):
            options_from(RayOptions, {"environment": [name]})
