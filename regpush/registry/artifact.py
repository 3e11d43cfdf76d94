"""Makes manifests of artifacts that refer to an image, by oras; `Repository` sends them."""

from __future__ import annotations

import io
from dataclasses import asdict
from typing import Any

import oras.container
import oras.oci
import oras.provider
import requests
from msgspec.structs import replace

from regpush.digest import OCI_MANIFEST, Descriptor, canonical_json
from regpush.registry.api import Call
from regpush.registry.referrers import EMPTY, Attachment, Referrer
from regpush.registry.repository import Repository


class Provider(oras.provider.Registry):
    """A client of oras for one repository, whose requests are all sent by `repository`.

    Credentials, certificates, proxies, redirects, retries and redaction thus work as for every
    other request. oras's own login, retries and session are not used, and neither is its parser of
    references, which takes `localhost/app` for a repository of Docker Hub.
    """

    def __init__(self, repository: Repository) -> None:
        super().__init__()
        self.session.close()
        self.session = _Session(repository)
        self._path = repository.name.path

    def describe(
        self, artifact: Attachment, subject: Descriptor
    ) -> tuple[Referrer, dict[str, Any]]:
        """Return the list entry and the manifest of `artifact` as a referrer of `subject`.

        Equal arguments give equal bytes.
        """
        manifest = oras.oci.NewManifest()
        manifest["artifactType"] = artifact.media_type
        manifest["config"], _ = oras.oci.ManifestConfig(media_type=EMPTY.media_type)
        manifest["layers"] = [artifact.layer.to_json()]
        manifest["subject"] = asdict(
            oras.oci.Subject(subject.media_type, str(subject.digest), subject.size)
        )
        manifest["annotations"] = dict(artifact.annotations)
        described = Descriptor.of(canonical_json(manifest), OCI_MANIFEST)
        listed = replace(described, annotations=artifact.annotations)
        return Referrer(descriptor=listed, artifact_type=artifact.media_type), manifest

    def send(self, manifest: dict[str, Any], referrer: Referrer) -> bool:
        """Send `manifest` under its digest, after oras has checked it against its schema.

        Returns whether the registry will list the artifact (header `OCI-Subject`). Raises the
        errors of `Repository.put_manifest`.
        """
        container = oras.container.Container("artifact")
        container.registry, container.namespace = "", None
        container.repository, container.digest = self._path, str(referrer.descriptor.digest)
        reply = self.upload_manifest(manifest, container)
        said = str(reply.headers.get("OCI-Subject", ""))
        return said == str(manifest["subject"]["digest"])

    def do_request(
        self,
        url: str,
        method: str = "GET",
        data: dict[str, Any] | bytes | None = None,
        headers: dict[str, str] | None = None,
        json: dict[str, Any] | None = None,
        stream: bool = False,
    ) -> requests.Response:
        """Send one request by `repository`.

        Replaces the method of oras that logs in and retries.
        """
        return self.session.request(
            method, url, data=data, headers=headers, json=json, stream=stream
        )


class _Session(requests.Session):
    """Replaces the HTTP session of oras: sends requests to the paths of one repository.

    Each response is a success; for a failure `Repository.ask` raises.
    """

    def __init__(self, repository: Repository) -> None:
        super().__init__()
        self._repository = repository

    def request(self, method: str, url: str, **said: Any) -> requests.Response:  # type: ignore[override]  # only the arguments that oras passes
        """Send `said["json"]` as canonical JSON; returns the registry's reply as requests' type."""
        path = url.partition("/v2/")[2].removeprefix(self._repository.name.path)
        call = Call(
            doing=f"pushing the artifact {path.rpartition('/')[2]}",
            method=method,
            path=path,
            headers=said["headers"] or {},
            body=canonical_json(said["json"]),
        )
        reply = self._repository.ask(call)
        made = requests.Response()
        made.status_code, made.url, made.raw = reply.status, reply.url, io.BytesIO(reply.body)
        made.headers.update(reply.headers)
        return made
