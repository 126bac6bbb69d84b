#!/bin/bash
# Pretraining under SLURM, one task a GPU, on any number of nodes:
#
#   sbatch --nodes 4 --gpus-per-node 8 --ntasks-per-node 8 training/launch/slurm.sh \
#       training/configs/tap_ct_b_3d.yaml data.root=/data/store run.dir=/data/runs/b_3d
#
# Two minutes before the time limit, or when the job is preempted, every task gets SIGUSR1, saves after the
# step under way and ends; the job then puts itself back in the queue and goes on from that step. The same
# happens to jobs requeued after a node failure, from the last checkpoint. Set partition, account and limits
# of your site on sbatch's command line; the run's folder must be on a file system that all nodes share.
#SBATCH --job-name=tapct-pretrain
#SBATCH --time=24:00:00
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.out
set -euo pipefail

[ $# -ge 1 ] || { echo "usage: sbatch training/launch/slurm.sh CONFIG.yaml [key=value]..." >&2; exit 2; }

run_dir=
for word in "$@"; do case "$word" in run.dir=*) run_dir=${word#run.dir=} ;; esac; done
[ -n "$run_dir" ] || { echo "say where the run lives: run.dir=/shared/folder" >&2; exit 2; }
rm -f "$run_dir/status.json"   # so that what is read below was written by this job

MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-4}

# srun in the foreground would keep bash from anything else; the tasks, not this shell, take the signal
srun --kill-on-bad-exit=1 bash -c '
    export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS
    exec python -m training.pretrain "$@"' pretrain "$@" &
tasks=$!
code=0
wait "$tasks" || code=$?

# stopped by a signal goes back in the queue; stopped by run.stop_after or run.max_minutes was meant
if [ "$code" -eq 0 ] && grep '"state": "stopped"' "$run_dir/status.json" 2>/dev/null | grep -qv 'stopped: run\.'; then
    echo "stopped cleanly; back in the queue"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
