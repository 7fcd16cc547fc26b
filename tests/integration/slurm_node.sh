#!/usr/bin/env bash
# SLURM on this machine alone: controller, node and munge on the loopback interface, for tests.
#
#   tests/integration/slurm_node.sh start FOLDER    installs what is missing (Debian, as root), starts
#   tests/integration/slurm_node.sh stop FOLDER
#
# Two partitions: jobs of `urgent` preempt those of `main`, which are told, requeued and go on.
set -euo pipefail
command=$1 folder=$(realpath -m "$2")
export SLURM_CONF=$folder/slurm.conf

start() {
  [ "$(id -u)" = 0 ] || { echo "slurm_node.sh needs root"; exit 1; }
  if ! command -v slurmctld slurmd munged > /dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends slurm-wlm munge > /dev/null
  fi
  mkdir -p "$folder"/{state,spool} /run/munge
  chown munge: /run/munge /etc/munge /var/log/munge /var/lib/munge
  [ -e /etc/munge/munge.key ] || sudo_munge mungekey --create
  pgrep -x munged > /dev/null || sudo_munge munged
  cat > "$SLURM_CONF" << CONF
ClusterName=loopback
SlurmctldHost=localhost
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_min_interval=1000000
SchedulerTimeSlice=5
KillWait=10
MinJobAge=30
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
MailProg=/bin/true
NodeName=localhost NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=main Nodes=localhost Default=YES MaxTime=INFINITE PriorityTier=1 GraceTime=60 State=UP
PartitionName=urgent Nodes=localhost MaxTime=INFINITE PriorityTier=10 State=UP
CONF
  slurmctld
  slurmd -N localhost
  for _ in $(seq 60); do
    if sinfo --noheader --format=%T 2> /dev/null | grep -qE 'idle|mixed|allocated'; then
      echo "SLURM runs; SLURM_CONF=$SLURM_CONF"
      return
    fi
    sleep 0.5
  done
  echo "SLURM did not start:"
  tail -n 20 "$folder"/slurm*.log
  exit 1
}

sudo_munge() {
  setpriv --reuid=munge --regid=munge --clear-groups "$@"
}

stop() {
  for name in slurmd slurmctld; do
    if [ -e "$folder/$name.pid" ]; then
      kill "$(cat "$folder/$name.pid")" 2> /dev/null || true
    fi
  done
}

"$command"
