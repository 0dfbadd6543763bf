package backend

import (
	"context"
	"io"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// FirstMessageFirst makes a server stream's Header wait for the first message and fail with the call's error. The code that
// protoc-gen-grpc-gateway generates asks for the header before it answers, so that a call which fails before its first
// message gets the same HTTP status, headers and body as a unary call, whenever the service sent its header.
type FirstMessageFirst struct{ *grpc.ClientConn }

// NewStream opens a stream; only server streams of known methods are changed.
func (c FirstMessageFirst) NewStream(
	ctx context.Context, desc *grpc.StreamDesc, method string, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	stream, err := c.ClientConn.NewStream(ctx, desc, method, options...)
	if err != nil || desc.ClientStreams || !desc.ServerStreams {
		return stream, err
	}
	output := outputType(method)
	if output == nil {
		return stream, nil
	}
	return &firstMessageStream{ClientStream: stream, first: output.New().Interface()}, nil
}

func outputType(method string) protoreflect.MessageType {
	name := strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", ".")
	descriptor, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		return nil
	}
	rpc, ok := descriptor.(protoreflect.MethodDescriptor)
	if !ok {
		return nil
	}
	output, err := protoregistry.GlobalTypes.FindMessageByName(rpc.Output().FullName())
	if err != nil {
		return nil
	}
	return output
}

type firstMessageStream struct {
	grpc.ClientStream
	first    proto.Message // filled by Header, nil once handed out
	received bool
	err      error
}

func (s *firstMessageStream) Header() (metadata.MD, error) {
	if !s.received && s.first != nil {
		s.received = true
		s.err = s.ClientStream.RecvMsg(s.first)
	}
	if s.err != nil && s.err != io.EOF {
		return nil, s.err
	}
	return s.ClientStream.Header()
}

func (s *firstMessageStream) RecvMsg(message any) error {
	if !s.received || s.first == nil {
		s.first = nil
		return s.ClientStream.RecvMsg(message)
	}
	if s.err != nil {
		return s.err
	}
	proto.Merge(message.(proto.Message), s.first)
	s.first = nil
	return nil
}
