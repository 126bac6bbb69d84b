#!/bin/bash
# The packaged encoder tap-ct-xs-3d, from its scans to its folder: some four hours of one CPU core.
#
#   training/launch/packaged_encoder.sh TRAIN_CTS WORK [section.key=value ...]
#
# TRAIN_CTS: a folder of the scans named in training/configs/tap_ct_xs_3d_data.md, or a text file with one path a line.
# WORK gets the store, three runs, and encoder/ at the end. Interrupted, the same line goes on where it stopped.
# Settings after these two go to every run: schedule.steps=20 tries the road out.
#
# Three runs because the recipe was found on the way: the second and third turn about all axes, which needs thicker
# blocks, and ask for sharper correspondence; each starts from the weights of the one before.
set -euo pipefail
scans=$1 work=$2
shift 2
config=training/configs/tap_ct_xs_3d.yaml
turned=('views.turn=[10,10,10]' 'data.block=[36,82,82]' loss.dense_temperature=0.05)

python -m training.ingest "$scans" --out "$work/store" --spacing 3 3 3 --crop-body

run() { # name, settings
    local name=$1
    shift
    python -m training.pretrain "$config" "data.root=$work/store" "run.dir=$work/$name" "$@"
    python -m training.export "$work/$name" --to "$work/$name-encoder"
}

run first "$@"
run second model.init_from="$work/first-encoder" "${turned[@]}" schedule.steps=450 schedule.warmup_steps=40 \
    schedule.teacher_temperature_steps=45 optim.lr=5e-4 loss.dense_points=288 "$@"
run third model.init_from="$work/second-encoder" "${turned[@]}" schedule.steps=9000 optim.lr=8e-4 "$@"

python -m training.export "$work/third" --to "$work/encoder" --name tap-ct-xs-3d --blocks 3 5 --scales 0.3 1 \
    --licence "Apache-2.0; trained on CC BY, BSD and Apache-2.0 scans (MODEL_CARD.md)" \
    --data training/configs/tap_ct_xs_3d_data.md
