#!/bin/bash
# What a fresh g5.xlarge does, once, as root. It holds no secret: S3 is reached by the instance profile.
# 1. launch: this machine. Whatever happens below, it ends: by one of two timers, or when this script does.
shutdown -h +@MINUTES@
(sleep @LAST_SECONDS@; poweroff -ff) </dev/null >/dev/null 2>&1 & # needs neither logind nor anything else that may hang
set -uo pipefail
exec > >(tee -a /var/log/crpbot.log) 2>&1
end() {
  set +e
  trap - EXIT
  timeout 60 aws s3 cp --quiet --region @REGION@ /var/log/crpbot.log "s3://@BUCKET@/@FOLDER@/log.txt" || true
  shutdown -h now || poweroff -f # 8. terminate: InstanceInitiatedShutdownBehavior is terminate
}
trap end EXIT
set -e
export HOME=/root AWS_REGION=@REGION@ AWS_DEFAULT_REGION=@REGION@ PYTHONUNBUFFERED=1
CRPBOT_MACHINE="$(cat /var/lib/cloud/data/instance-id 2>/dev/null || true)" # cloud-init's; status says which machine spoke
export CRPBOT_MACHINE
mkdir -p /opt/crpbot && cd /opt/crpbot
# 2. environment: uv, Python and torch with the driver of the Deep Learning AMI
python3 -m pip install --quiet uv
python3 -m uv venv --quiet --python 3.12 venv
# 3. the code, as it was where this was sent from
aws s3 cp --quiet --recursive "s3://@BUCKET@/@PACKAGE@" package
(cd package && for name in crpbot.zip requirements.txt constraints.txt start.sh; do sha256sum "$name"; done) |
  sed -E 's/^([0-9a-f]+) +(.*)$/\2 \1/' | sha256sum | cut -c1-64 | grep -qx "@DIGEST@" # the very files that were sent
python3 -m uv pip install --quiet --python venv/bin/python -r package/requirements.txt -c package/constraints.txt "torch==@TORCH@" pip
mkdir code && venv/bin/python -m zipfile -e package/crpbot.zip code
export PATH="/opt/crpbot/venv/bin:$PATH" PYTHONPATH=/opt/crpbot/code
# 4. data, 5. train, 6. validate, 7. upload: for each symbol, by the contract of SageMaker
python -m crpbot.cloud.machine "s3://@BUCKET@/@FOLDER@/run.json"
