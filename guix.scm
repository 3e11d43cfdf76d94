;;; For GNU Guix: `guix shell -f guix.scm`, `guix package -f guix.scm`, `guix build -f guix.scm`.
;;;
;;; Not evaluated: where this was written there was no Guix, and it was read by plain Guile alone.
;;; The packages are those of Guix by their names there; where Guix has an older version than
;;; pyproject.toml asks for, the phase sanity-check says which.  `--sbom` wants more that Guix has
;;; no package of.

(use-modules (guix build-system pyproject)
             ((guix build-system python) #:select (pypi-uri))
             (guix download)
             (guix gexp)
             (guix git-download)
             ((guix licenses) #:prefix license:)
             (guix packages)
             (guix utils)
             (gnu packages python-build)
             (gnu packages python-compression)
             (gnu packages python-crypto)
             (gnu packages python-web)
             (gnu packages python-xyz))

;; What Guix has no package of.
(define python-oras
  (package
    (name "python-oras")
    (version "0.2.43")
    (source
     (origin
       (method url-fetch)
       (uri (pypi-uri "oras" version))
       (sha256
        (base32 "0z0459w03hxw1x8hjk7qcpy663r3y0zkcx9993lyal6fix8jn7vn"))))
    (build-system pyproject-build-system)
    (arguments (list #:tests? #f))      ;they want a registry
    (native-inputs (list python-setuptools))
    (propagated-inputs (list python-jsonschema python-requests))
    (home-page "https://oras-project.github.io/oras-py/")
    (synopsis "Client for artifacts in OCI registries")
    (description "This package lets Python programs push, pull and list artifacts
that are kept in container registries.")
    (license license:asl2.0)))

(define python-backports-zstd
  (package
    (name "python-backports-zstd")
    (version "1.8.0")
    (source
     (origin
       (method url-fetch)
       (uri (pypi-uri "backports_zstd" version))
       (sha256
        (base32 "05mk7pxpg5jwg9b1p4y0b5sgy27mnibp8rix8zdy65hp9164zblx"))))
    (build-system pyproject-build-system)
    (arguments (list #:tests? #f))      ;those of CPython
    (native-inputs (list python-setuptools))
    (home-page "https://github.com/rogdham/backports.zstd")
    (synopsis "Zstandard module of Python 3.14 for earlier versions")
    (description "This package has what the module @code{compression.zstd} of
Python 3.14 has.")
    (license license:psfl)))

(define checkout?
  (or (git-predicate (current-source-directory))
      (const #t)))

(package
  (name "regpush")
  (version "0.1.0")
  (source (local-file "." "regpush-checkout" #:recursive? #t #:select? checkout?))
  (build-system pyproject-build-system)
  (arguments (list #:tests? #f))        ;they want registries, and other programs
  (native-inputs (list python-hatchling))
  (propagated-inputs
   (list python-backports-zstd
         python-blake3
         python-deflate
         python-httpcore
         python-httpx
         python-isal
         python-msgspec
         python-oras
         python-pyyaml
         python-requests
         python-rich
         python-starlette
         python-tenacity
         python-typer
         python-uvicorn))
  (home-page #f)
  (synopsis "Push applications straight into OCI registries")
  (description "Regpush puts a directory, a profile or a store item into a
container registry as an image of several layers, and sends only those that the
registry has not got.  It needs no Docker and writes no tarball.")
  (license license:asl2.0))
