#!/usr/bin/env bash
# A run on Slurm: sbatch slurm.sh.  The same command goes on where a job was ended.
#SBATCH --job-name=tiltbench
#SBATCH --nodes=4                     # CHANGE
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16            # CHANGE
#SBATCH --gpus-per-task=1             # CHANGE: 0 for a run on cores
#SBATCH --mem=64G
#SBATCH --time=24:00:00               # CHANGE
#SBATCH --output=tiltbench-%j.log
set -euo pipefail

source "$HOME/tiltbench/bin/activate" # CHANGE: an environment that every node sees
runs="$SCRATCH/runs"                  # CHANGE: a folder that every node sees, or s3://my-bucket/runs
suite=quickstart                      # CHANGE

# Nodes of Ray trust one another by a token, which lies in the home folder that they share.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$HOME/.ray/auth_token"
ray get-auth-token --generate > /dev/null
export RAY_USAGE_STATS_ENABLED=0 OMP_NUM_THREADS=1

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address="$first:$((20000 + SLURM_JOB_ID % 20000))"   # two jobs on one node do not meet
cores="$SLURM_CPUS_PER_TASK"

srun --overlap --nodes=1 --ntasks=1 --nodelist="$first" \
    ray start --head --port="${address##*:}" --num-cpus="$cores" --include-dashboard=false --block &
sleep 20
if [ "$SLURM_NNODES" -gt 1 ]; then
    srun --overlap --nodes=$((SLURM_NNODES - 1)) --ntasks=$((SLURM_NNODES - 1)) --exclude="$first" \
        ray start --address="$address" --num-cpus="$cores" --block &
    sleep 20
fi

# Says what is to be mended, by node, before anything is computed.
bench doctor "$suite" --address "$address"
bench run "$suite" --address "$address" --root "$runs"
