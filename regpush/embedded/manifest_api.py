"""The HTTP endpoints of the embedded registry for manifests, tags, referrers and the catalog."""

from __future__ import annotations

import hashlib
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from regpush.digest import OCI_INDEX, Descriptor, Digest
from regpush.embedded.answers import ApiError
from regpush.embedded.manifests import SIZE_LIMIT, describe_referrer, read_references
from regpush.embedded.names import (
    RepositoryName,
    Tag,
    parse_digest,
    parse_repository,
    parse_tag_or_digest,
)
from regpush.embedded.store import ContentStore, StoredManifest


class ManifestApi:
    """The endpoints of manifests, tag lists, referrers and the catalog."""

    def __init__(self, store: ContentStore) -> None:
        self._store = store

    def routes(self) -> list[Route]:
        """Return the Starlette routes of these endpoints, more specific paths first."""
        manifest = "/v2/{name:path}/manifests/{target}"
        return [
            Route("/v2/_catalog", self.catalog, methods=["GET"]),
            Route("/v2/{name:path}/tags/list", self.tags, methods=["GET"]),
            Route("/v2/{name:path}/referrers/{digest}", self.referrers, methods=["GET"]),
            Route(manifest, self.read, methods=["GET", "HEAD"]),
            Route(manifest, self.put, methods=["PUT"]),
            Route(manifest, self.delete, methods=["DELETE"]),
        ]

    def read(self, request: Request) -> Response:
        """Answer GET or HEAD of a manifest or index, by tag or digest."""
        manifest = self._store.manifest(*_manifest_of(request))
        if manifest is None:
            raise ApiError("MANIFEST_UNKNOWN", "the repository has no such manifest")
        return Response(
            manifest.content,
            media_type=manifest.media_type,
            headers={"Docker-Content-Digest": str(manifest.digest)},
        )

    async def put(self, request: Request) -> Response:
        """Answer PUT of a manifest or index, by tag or digest.

        Answers MANIFEST_BLOB_UNKNOWN unless the repository has all blobs and manifests that the
        document names, except its subject.
        """
        repository, target = _manifest_of(request)
        content = await _body(request)
        media_type = request.headers.get("Content-Type", "").partition(";")[0].strip()
        references = read_references(content, media_type)
        algorithm = target.algorithm if isinstance(target, Digest) else "sha256"
        digest = Digest(algorithm, hashlib.new(algorithm, content).hexdigest())
        if isinstance(target, Digest) and target != digest:
            raise ApiError("DIGEST_INVALID", f"the manifest has the digest {digest}, not {target}")
        missing = await run_in_threadpool(
            self._store.add_manifest,
            repository,
            StoredManifest(digest=digest, media_type=media_type, content=content),
            references,
            None if isinstance(target, Digest) else target,
        )
        if missing:
            raise ApiError(
                "MANIFEST_BLOB_UNKNOWN",
                f"the repository lacks {', '.join(map(str, missing))}",
            )
        return Response(
            status_code=201,
            headers={
                "Location": f"/v2/{repository}/manifests/{digest}",
                "Docker-Content-Digest": str(digest),
                # Tells the client that this registry has the referrers API.
                **({"OCI-Subject": str(references.subject)} if references.subject else {}),
            },
        )

    def delete(self, request: Request) -> Response:
        """Answer DELETE: of a tag alone, or by digest, of a manifest and all its tags."""
        if not self._store.delete_manifest(*_manifest_of(request)):
            raise ApiError("MANIFEST_UNKNOWN", "the repository has no such manifest")
        return Response(status_code=202)

    def tags(self, request: Request) -> Response:
        """Answer GET of the sorted tags; the parameters `n` and `last` choose a page."""
        repository = parse_repository(request.path_params["name"])
        tags = self._store.tags(repository)
        if tags is None:
            raise ApiError("NAME_UNKNOWN", f"no manifest was ever pushed to {repository}")
        page, headers = _page(request, tags)
        return JSONResponse({"name": repository, "tags": page}, headers=headers)

    def referrers(self, request: Request) -> Response:
        """Answer GET of a manifest's referrers, as an index; `artifactType` filters them."""
        repository = parse_repository(request.path_params["name"])
        subject = parse_digest(request.path_params["digest"])
        listed = [
            describe_referrer(
                one.content,
                Descriptor(media_type=one.media_type, digest=one.digest, size=len(one.content)),
            )
            for one in self._store.referrers(repository, subject)
        ]
        headers = {}
        if wanted := request.query_params.get("artifactType"):
            listed = [one for one in listed if one.get("artifactType") == wanted]
            headers["OCI-Filters-Applied"] = "artifactType"
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}
        return JSONResponse(index, media_type=OCI_INDEX, headers=headers)

    def catalog(self, request: Request) -> Response:
        """Answer GET of the sorted repository names; `n` and `last` choose a page."""
        page, headers = _page(request, self._store.repositories())
        return JSONResponse({"repositories": page}, headers=headers)


def _manifest_of(request: Request) -> tuple[RepositoryName, Tag | Digest]:
    return (
        parse_repository(request.path_params["name"]),
        parse_tag_or_digest(request.path_params["target"]),
    )


async def _body(request: Request) -> bytes:
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > SIZE_LIMIT:
            raise ApiError(
                "MANIFEST_INVALID", f"a manifest has at most {SIZE_LIMIT} bytes", status=413
            )
    return bytes(content)


def _page(request: Request, names: list[str]) -> tuple[list[str], dict[str, str]]:
    """Return the page of the sorted `names` that the parameters `n` and `last` choose.

    `n`: maximum number of names; `last`: the page begins after this name. The second value holds
    the Link header to the next page, if there are more names. Raises ApiError for a bad `n`.
    """
    parameters = request.query_params
    if "last" in parameters:
        names = [name for name in names if name > parameters["last"]]
    if "n" not in parameters:
        return names, {}
    limit = parameters["n"]
    if not (limit.isascii() and limit.isdigit() and len(limit) < 10):
        raise ApiError("PAGINATION_NUMBER_INVALID", "the parameter n is not a number of entries")
    page = names[: int(limit)]
    if not page or len(page) == len(names):
        return page, {}
    query = urlencode({"n": limit, "last": page[-1]})
    return page, {"Link": f'<{request.url.path}?{query}>; rel="next"'}
