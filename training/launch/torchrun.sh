#!/bin/bash
# Pretraining on several machines without a scheduler: run this same line on each of them.
#
#   NODES=4 GPUS=8 HOST=first-machine:29500 training/launch/torchrun.sh CONFIG.yaml data.root=STORE run.dir=RUN
#
# HOST is any one of the machines, reachable from all; STORE and RUN lie on a file system that all share.
# Machines find each other through HOST, so they may start in any order. If one fails, torchrun ends the others
# and starts all again, up to three times, from the last checkpoint. To stop a
# run, send SIGTERM or SIGUSR1 to the training processes of one machine: all save after the step under way.
# (SIGTERM to torchrun itself gives them 30 seconds, which a large model on a slow disk may not keep.)
set -euo pipefail
exec torchrun --nnodes "${NODES:-1}" --nproc-per-node "${GPUS:-gpu}" --max-restarts 3 \
    --rdzv-backend c10d --rdzv-id "${RUN_ID:-tapct}" --rdzv-endpoint "${HOST:-localhost:29500}" \
    -m training.pretrain "$@"
