package passthrough

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// frame is one message that is passed on as it came.
type frame struct{ data mem.BufferSlice }

// codec passes frames through and leaves every other message to protobuf.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(proto.Name)} }

// Marshal hands the frame's bytes to gRPC, which frees them.
func (c codec) Marshal(message any) (mem.BufferSlice, error) {
	if f, ok := message.(*frame); ok {
		return f.data, nil
	}
	return c.CodecV2.Marshal(message)
}

// Unmarshal keeps the bytes beyond the call, which needs a reference of its own.
func (c codec) Unmarshal(data mem.BufferSlice, message any) error {
	if f, ok := message.(*frame); ok {
		data.Ref()
		f.data = data
		return nil
	}
	return c.CodecV2.Unmarshal(data, message)
}
