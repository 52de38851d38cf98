#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Sandboxes of another cluster in the mesh: kvm.sh CLASS... on the cluster that kubectl means, where maille is installed with --cni.
# IMAGE is an image with maille-pairs (cargo build --release -p maille-tests-e2e) as its entry point that the nodes can get, with a libc for it:
#   FROM debian:12
#   COPY target/release/maille-pairs /usr/local/bin/
#   ENTRYPOINT ["/usr/local/bin/maille-pairs"]
set -euo pipefail
[ $# -gt 0 ] || { echo "IMAGE=... $0 CLASS...: RuntimeClasses, such as kata-qemu kata-fc" >&2; exit 2; }
: "${IMAGE:?an image with maille-pairs}"
inside=maille-kvm outside=maille-kvm-outside work=$(mktemp -d)
trap 'kubectl delete namespace "$inside" "$outside" --ignore-not-found >/dev/null; rm -r "$work"' EXIT

fail() { echo "failed: $*" >&2; exit 1; }

# NAMESPACE NAME CLASS: a pod and its service; CLASS may be empty.
start() {
  kubectl apply -f - >/dev/null <<YAML
apiVersion: v1
kind: Service
metadata: {name: $2, namespace: $1}
spec:
  selector: {app: $2}
  ports: [{name: http, port: 8080}, {name: grpc, port: 8081}, {name: tcp, port: 8082}]
---
apiVersion: v1
kind: Pod
metadata: {name: $2, namespace: $1, labels: {app: $2}}
spec:
  ${3:+runtimeClassName: $3}
  terminationGracePeriodSeconds: 1
  containers:
  - name: pairs
    image: $IMAGE
    args: [serve, $2]
    readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
YAML
}

# NAMESPACE POD HOST...: everybody answers, in every way. What is ready is known to everybody a moment later.
ask() {
  local namespace=$1 pod=$2 try; shift 2
  for try in $(seq 30); do
    kubectl -n "$namespace" exec "$pod" -c pairs -- /usr/local/bin/maille-pairs ask "$@" >"$work/said" || fail "$pod cannot ask"
    [ "$(grep -c . "$work/said")" = $# ] && ! grep -q '"error"' "$work/said" && return
    sleep 1
  done
  cat "$work/said" >&2
  fail "$pod is not answered, $try times"
}

for namespace in "$inside" "$outside"; do kubectl create namespace "$namespace" >/dev/null; done
kubectl label namespace "$inside" maille.io/inject=enabled >/dev/null
for namespace in "$inside" "$outside"; do
  until kubectl -n "$namespace" get serviceaccount default >/dev/null 2>&1; do sleep 1; done
done
start "$inside" shared ''
start "$outside" stranger ''
names=(shared)
for class in "$@"; do
  start "$inside" "on-$class" "$class"
  names+=("on-$class")
done
for namespace in "$inside" "$outside"; do
  kubectl -n "$namespace" wait pod --all --for=condition=Ready --timeout 300s >/dev/null
done
hosts=("${names[@]}")
for name in "${names[@]}"; do
  # shellcheck disable=SC2207 # addresses have no blanks
  hosts+=($(kubectl -n "$inside" get pod "$name" -o 'jsonpath={.status.podIPs[*].ip}'))
  how=$(kubectl -n "$inside" get pod "$name" -o 'jsonpath={.metadata.annotations.maille\.io/capture} {.spec.containers[*].name} {.spec.initContainers[*].name}')
  [ "$how" = "outboard pairs " ] || fail "$name is not as it was written, or not captured from outside: $how"
done
for name in "${names[@]}"; do ask "$inside" "$name" "${hosts[@]}"; done
ask "$outside" stranger "${hosts[@]:${#names[@]}}"
echo "everybody reaches everybody: ${hosts[*]}"

command -v tshark >/dev/null || { echo "no tshark: frames are not looked at"; exit; }
for name in "${names[@]:1}"; do
  maille capture "$name" -n "$inside" --seconds 10 -w "$work/$name.pcapng" & recording=$!
  while kill -0 $recording 2>/dev/null; do ask "$inside" shared "$name"; done
  wait $recording
  seen() { tshark -r "$work/$name.pcapng" -Y "$1" -T fields -e frame.interface_name | sort -u | tr '\n' ' '; }
  plain=$(seen 'http.request && !(http.user_agent contains "kube-probe")') mesh=$(seen 'tcp.port == 15008')
  [ "$plain" = "dn0 " ] || fail "$name is in the clear on: $plain"
  case "$mesh" in *up0*) ;; *) fail "$name speaks TLS on: $mesh" ;; esac
  echo "$name: in the clear on its own side alone, TLS on: $mesh"
done
