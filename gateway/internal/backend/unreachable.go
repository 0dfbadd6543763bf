package backend

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// unreachable gives transport failures the words and details that a service's own errors have. An error that a service
// answered itself has details and stays as it is.
type unreachable struct{ name string }

func (u unreachable) unary(
	ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	return u.explain(invoke(ctx, method, request, reply, conn, options...))
}

func (u unreachable) stream(
	ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, streamer grpc.Streamer, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	stream, err := streamer(ctx, desc, conn, method, options...)
	if err != nil {
		return nil, u.explain(err)
	}
	return explainedStream{stream, u}, nil
}

func (u unreachable) explain(err error) error {
	failure, ok := status.FromError(err)
	if err == nil || !ok || failure.Code() != codes.Unavailable || len(failure.Proto().GetDetails()) > 0 {
		return err
	}
	message := fmt.Sprintf("The %s service cannot be reached (%s). Is it running? Try again in a moment.", u.name, failure.Message())
	explained, detailsErr := status.New(codes.Unavailable, message).WithDetails(
		&errdetails.ErrorInfo{Reason: "UNAVAILABLE", Domain: "murphey", Metadata: map[string]string{"service": u.name}},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)},
	)
	if detailsErr != nil {
		return err
	}
	return explained.Err()
}

type explainedStream struct {
	grpc.ClientStream
	unreachable unreachable
}

func (s explainedStream) RecvMsg(message any) error {
	return s.unreachable.explain(s.ClientStream.RecvMsg(message))
}
