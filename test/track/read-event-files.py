"""Prints as JSON what TensorBoard's own reader finds in a folder of event files."""

import json
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata, plugin_data_pb2
from tensorboard.util import tensor_util

found = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "tensors": 0})
found.Reload()
tags = found.Tags()


def hparams(tag):
    data = found.SummaryMetadata(tag).plugin_data.content
    return plugin_data_pb2.HParamsPluginData.FromString(data)


def plain(value):
    return getattr(value, value.WhichOneof("kind"))


start = hparams(metadata.SESSION_START_INFO_TAG).session_start_info
end = hparams(metadata.SESSION_END_INFO_TAG).session_end_info
texts = [tag for tag in tags["tensors"] if found.SummaryMetadata(tag).plugin_data.plugin_name == "text"]
json.dump(
    {
        "scalars": {tag: [[event.step, event.value] for event in found.Scalars(tag)] for tag in tags["scalars"]},
        "texts": {
            tag: tensor_util.make_ndarray(found.Tensors(tag)[-1].tensor_proto).item().decode() for tag in texts
        },
        "hparams": {name: plain(value) for name, value in start.hparams.items()},
        "status": end.status,
    },
    sys.stdout,
)
