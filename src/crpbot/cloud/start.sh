#!/bin/bash
# The entry point of the container: takes the code that was uploaded beside this file, and becomes the worker.
# SageMaker calls it (AlgorithmSpecification.ContainerEntrypoint), and so does crpbot.cloud.machine on EC2.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
base="${SAGEMAKER_BASE_DIR:-/opt/ml}"
code="$base/code"
mkdir -p "$code" "$base/output"
fail() {
  echo "$1" >"$base/output/failure"
  echo "error: $1" >&2
  exit 1
}
python -m zipfile -e "$here/crpbot.zip" "$code" || fail "the package must be a zip of crpbot, found a damaged one; send the job again"
python -m pip install -q --disable-pip-version-check --no-input --root-user-action=ignore \
  -r "$here/requirements.txt" -c "$here/constraints.txt" ||
  fail "pip must install requirements.txt in this image, see the log; use an image that has them (docs/cloud/Dockerfile)"
export PYTHONPATH="$code" PYTHONUNBUFFERED=1
exec python -m crpbot.cloud.worker
