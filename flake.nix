# `nix run github:$OWNER/regpush -- --help`, or `nix profile install`.
#
# Evaluated by the tests against a stand-in for nixpkgs, and not yet built against the real one:
# where this was written, nixpkgs could not be fetched. It wants one that has Python's oras.
{
  description = "Push an application straight into an OCI registry as a layered image";

  inputs.nixpkgs.url = "nixpkgs";

  outputs = { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;

      systems = [ "x86_64-linux" "aarch64-linux" "x86_64-darwin" "aarch64-darwin" ];

      project = (builtins.fromTOML (builtins.readFile ./pyproject.toml)).project;

      # "ruamel.yaml>=0.18; python_version < '4'" is python3Packages.ruamel-yaml.
      nameOf = requirement:
        builtins.replaceStrings [ "." "_" ] [ "-" "-" ]
          (builtins.head (builtins.match "([A-Za-z0-9._-]+).*" requirement));

      version = builtins.head
        (builtins.match ".*__version__ = \"([^\"]+)\".*" (builtins.readFile ./regpush/__init__.py));

      # Bindings to libdeflate, which nixpkgs has not got.
      deflate = pkgs: pkgs.python3Packages.buildPythonPackage rec {
        pname = "deflate";
        version = "0.9.0";
        pyproject = true;
        src = pkgs.fetchPypi {
          inherit pname version;
          hash = "sha256-li4Kbx6jqUuQCo6gzhOPqSv8uv2luGNnEEoln/zTRis=";
        };
        build-system = [ pkgs.python3Packages.scikit-build-core ];
        nativeBuildInputs = [ pkgs.cmake pkgs.ninja ];
        dontUseCmakeConfigure = true; # its build backend calls cmake
        pythonImportsCheck = [ "deflate" ];
      };

      regpush = pkgs:
        let
          python = pkgs.python3Packages // { deflate = deflate pkgs; };
          # "backports.zstd>=1; python_version < '3.14'" is for Pythons before 3.14.
          fits = requirement:
            let bound = builtins.match ".*python_version < '([0-9.]+)'.*" requirement;
            in bound == null
              || builtins.compareVersions python.python.pythonVersion (builtins.head bound) < 0;
          packages = requirements:
            map (requirement: python.${nameOf requirement}) (builtins.filter fits requirements);
        in
        python.buildPythonApplication {
          pname = "regpush";
          inherit version;
          pyproject = true;
          src = self;
          build-system = [ python.hatchling ];
          dependencies = packages (project.dependencies
            ++ project.optional-dependencies.registry
            ++ project.optional-dependencies.sbom);
          doCheck = false; # the tests want registries, and other programs
          pythonImportsCheck = [ "regpush.cli.app" "regpush.flow.pipeline" ];
          meta = {
            inherit (project) description;
            license = lib.licenses.asl20;
            mainProgram = "regpush";
          };
        };
    in
    {
      packages = lib.genAttrs systems (system: {
        default = regpush nixpkgs.legacyPackages.${system};
      });
    };
}
