// Package passthrough lets gRPC clients reach every service through the gateway's one address. It passes messages on as
// bytes, both ways, with metadata, deadline, cancellation, status details and trailers; it does not know the messages.
package passthrough

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	"murphey.dev/gateway/internal/backend"
)

// everyKind is a stream in both directions: as bytes, the other three kinds of call are special cases of it.
var everyKind = &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}

// NewServer makes the gRPC server. Health answers for all services together and for each by its full name; reflection
// lists them all; everything else goes to the service that has the method's package.
func NewServer(backends backend.Backends, healthServer *health.Server) *grpc.Server {
	proxy := proxy{backends: backends, codec: newCodec()}
	server := grpc.NewServer(
		grpc.ForceServerCodecV2(proxy.codec),
		grpc.UnknownServiceHandler(proxy.handle),
		grpc.StreamInterceptor(logged),
		grpc.MaxRecvMsgSize(backend.MaxMessageBytes),
		grpc.MaxSendMsgSize(backend.MaxMessageBytes),
	)
	healthpb.RegisterHealthServer(server, healthServer)
	reflection.Register(reflected{server, backends})
	return server
}

// reflected is the server as reflection shows it: with the services behind it.
type reflected struct {
	*grpc.Server
	backends backend.Backends
}

func (r reflected) GetServiceInfo() map[string]grpc.ServiceInfo {
	services := r.Server.GetServiceInfo()
	for _, backend := range r.backends {
		services[backend.Service] = grpc.ServiceInfo{}
	}
	return services
}

type proxy struct {
	backends backend.Backends
	codec    codec
}

func (p proxy) handle(_ any, caller grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(caller)
	target := p.backends.For(method)
	if target == nil {
		return status.Errorf(codes.Unimplemented, "%s is no method of a service behind this gateway.", method)
	}
	// Ends with the handler, so that the service is told whenever the caller is gone.
	ctx, cancel := context.WithCancel(caller.Context())
	defer cancel()
	incoming, _ := metadata.FromIncomingContext(ctx)
	ctx = metadata.NewOutgoingContext(ctx, forwarded(incoming))

	callee, err := target.Conn.NewStream(ctx, everyKind, method, grpc.ForceCodecV2(p.codec))
	if err != nil {
		return err
	}
	go func() {
		if err := requests(caller, callee); err != nil {
			cancel() // a broken request must not look like a finished one
		}
	}()
	return responses(caller, callee)
}

// forwarded drops what belongs to one hop, and what only services may say; gRPC drops its own headers itself.
func forwarded(incoming metadata.MD) metadata.MD {
	outgoing := incoming.Copy()
	for _, key := range []string{"connection", "grpc-previous-rpc-attempts", "grpc-accept-encoding", "murphey-tenant"} {
		outgoing.Delete(key)
	}
	return outgoing
}

// requests passes the caller's messages on. A failed send is no failure here: the call's status tells the caller why.
func requests(caller grpc.ServerStream, callee grpc.ClientStream) error {
	for {
		message := &frame{}
		err := caller.RecvMsg(message)
		if errors.Is(err, io.EOF) {
			return callee.CloseSend()
		}
		if err != nil {
			return err
		}
		if callee.SendMsg(message) != nil {
			return nil
		}
	}
}

// responses passes header, messages, trailers and status back.
func responses(caller grpc.ServerStream, callee grpc.ClientStream) error {
	if header, err := callee.Header(); err == nil && header != nil {
		if err := caller.SendHeader(header); err != nil {
			return err
		}
	}
	for {
		message := &frame{}
		err := callee.RecvMsg(message)
		if err != nil {
			caller.SetTrailer(callee.Trailer())
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := caller.SendMsg(message); err != nil {
			return err
		}
	}
}

func logged(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	start := time.Now()
	err := handler(service, stream)
	slog.Info("grpc_request", "method", info.FullMethod, "code", status.Code(err).String(),
		"duration_ms", time.Since(start).Milliseconds())
	return err
}
