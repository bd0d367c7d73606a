//! The names that a pickle of weights may use.

/// What a name of Python's stands for here. Each is only data; none can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::fsdp) enum Name {
    /// A dictionary that keeps its order.
    OrderedDict,
    /// Shape of a tensor.
    Size,
    /// A tensor from its storage, offset, size and strides; with the number type last.
    Tensor,
    TensorOfType,
    /// A tensor that is trained: the tensor, and what training needs.
    Parameter,
    /// An object of a class derived from tensors: function, class, arguments, state.
    Derived,
    /// What such an object is before it has its state: class, number type, size and so on.
    Wrapper,
    DTensor,
    DTensorSpec,
    DeviceMesh,
    Shard,
    Replicate,
    /// A placement that cannot be undone by putting shares side by side.
    OtherPlacement(&'static str),
    ShardedTensor,
    LocalShard,
    ShardMetadata,
    /// The type of numbers in a storage, by its name.
    Storage(&'static str),
    /// Storage of bytes; the tensor says what they are.
    UntypedStorage,
    /// Number type of a tensor.
    Type(&'static str),
    /// Reads an attribute: how old pickles name a class inside of a class.
    Attribute,
    /// Something that weights come with and that nothing here looks at.
    Ignored,
}

/// The meaning of a name in a module; `None` for all that weights do not need.
pub(super) fn lookup(module: &str, name: &str) -> Option<Name> {
    const NUMBERS: [&str; 11] = [
        "float32",
        "bfloat16",
        "float16",
        "float64",
        "int64",
        "int32",
        "int16",
        "int8",
        "uint8",
        "bool",
        "float8_e4m3fn",
    ];
    const STORAGES: [(&str, &str); 10] = [
        ("FloatStorage", "float32"),
        ("BFloat16Storage", "bfloat16"),
        ("HalfStorage", "float16"),
        ("DoubleStorage", "float64"),
        ("LongStorage", "int64"),
        ("IntStorage", "int32"),
        ("ShortStorage", "int16"),
        ("CharStorage", "int8"),
        ("ByteStorage", "uint8"),
        ("BoolStorage", "bool"),
    ];
    if module == "torch" {
        if let Some(number) = NUMBERS.into_iter().find(|number| *number == name) {
            return Some(Name::Type(number));
        }
        if let Some((_, number)) = STORAGES.into_iter().find(|(storage, _)| *storage == name) {
            return Some(Name::Storage(number));
        }
    }
    Some(match (module, name) {
        ("collections", "OrderedDict") => Name::OrderedDict,
        ("__builtin__" | "builtins", "getattr") => Name::Attribute,
        ("__builtin__" | "builtins", "set") => Name::Ignored,
        ("torch", "Size") => Name::Size,
        ("torch", "device" | "Tensor") => Name::Ignored,
        ("torch.serialization", "_get_layout") => Name::Ignored,
        ("torch.storage", "UntypedStorage") => Name::UntypedStorage,
        ("torch._utils", "_rebuild_tensor_v2") => Name::Tensor,
        ("torch._utils", "_rebuild_tensor_v3") => Name::TensorOfType,
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Name::Parameter,
        ("torch._utils", "_rebuild_wrapper_subclass") => Name::Wrapper,
        ("torch._tensor", "_rebuild_from_type_v2") => Name::Derived,
        ("torch.nn.parameter", "Parameter" | "Buffer") => Name::Ignored,
        (
            "torch.distributed.tensor"
            | "torch.distributed.tensor._api"
            | "torch.distributed._tensor"
            | "torch.distributed._tensor.api",
            "DTensor",
        ) => Name::DTensor,
        (
            "torch.distributed.tensor._dtensor_spec"
            | "torch.distributed._tensor._dtensor_spec"
            | "torch.distributed._tensor.placement_types",
            "DTensorSpec",
        ) => Name::DTensorSpec,
        (
            "torch.distributed.tensor._dtensor_spec"
            | "torch.distributed._tensor._dtensor_spec"
            | "torch.distributed._tensor.placement_types",
            "TensorMeta" | "ShardOrderEntry",
        ) => Name::Ignored,
        (
            "torch.distributed.tensor.placement_types"
            | "torch.distributed._tensor.placement_types",
            placement,
        ) => match placement {
            "Shard" => Name::Shard,
            "Replicate" => Name::Replicate,
            "Partial" | "_Partial" => Name::OtherPlacement("Partial"),
            "_StridedShard" => Name::OtherPlacement("_StridedShard"),
            _ => return None,
        },
        (
            "torch.distributed.device_mesh"
            | "torch.distributed._device_mesh"
            | "torch.distributed._tensor.device_mesh",
            "DeviceMesh",
        ) => Name::DeviceMesh,
        ("torch.distributed._mesh_layout", "_MeshLayout" | "_FlatLayout" | "_Layout") => {
            Name::Ignored
        }
        ("torch.distributed._shard.sharded_tensor.api", "ShardedTensor") => Name::ShardedTensor,
        ("torch.distributed._shard.sharded_tensor.api", "ShardedTensor.ProcessGroupState") => {
            Name::Ignored
        }
        ("torch.distributed._shard.sharded_tensor.shard", "Shard") => Name::LocalShard,
        ("torch.distributed._shard.metadata", "ShardMetadata") => Name::ShardMetadata,
        (
            "torch.distributed._shard.sharded_tensor.metadata",
            "ShardedTensorMetadata" | "TensorProperties" | "MEM_FORMAT_ENCODING",
        ) => Name::Ignored,
        (
            "torch.distributed._shard.sharding_spec.api",
            "EnumerableShardingSpec" | "ShardingSpec",
        )
        | ("torch.distributed._shard.sharding_spec.chunk_sharding_spec", "ChunkShardingSpec")
        | ("torch.distributed.remote_device", "_remote_device") => Name::Ignored,
        _ => return None,
    })
}
