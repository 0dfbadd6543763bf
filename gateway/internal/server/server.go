// Package server puts gRPC and HTTP behind one port and stops them in time. What is answered is up to rest and passthrough.
package server

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/rs/cors"
	"google.golang.org/grpc/health"

	"murphey.dev/gateway/internal/backend"
	"murphey.dev/gateway/internal/certificates"
	"murphey.dev/gateway/internal/passthrough"
	"murphey.dev/gateway/internal/rest"
	"murphey.dev/gateway/internal/settings"
)

// firstAnswers bounds how long the start waits to learn which services are there. Refused connections are learnt of at once.
const firstAnswers = 2 * time.Second

// Run serves on the listener until the context ends and then lets running calls end, for at most settings.Drain. The
// listener is closed when it returns.
func Run(ctx context.Context, settings settings.Settings, listener net.Listener, openAPI []byte) error {
	transport, err := certificates.ForServices(settings.TLS)
	if err != nil {
		return err
	}
	shown, err := certificates.ForClients(settings.TLS)
	if err != nil {
		return err
	}
	backends, err := backend.Open(settings.Targets, transport)
	if err != nil {
		return err
	}
	defer backends.Close()

	// Calls live in this context; its end cuts off those that outlast the drain.
	calls, cutOff := context.WithCancel(context.WithoutCancel(ctx))
	defer cutOff()
	healthServer := health.NewServer()
	known := backends.Report(calls, healthServer)
	grpcServer := passthrough.NewServer(backends, healthServer)
	defer grpcServer.Stop()

	limits := rest.Limits{
		UploadBytes: settings.MaxUploadBytes, JSONBytes: settings.MaxJSONBytes, BodyIdle: settings.SlowRequest,
	}
	api, err := rest.New(calls, backends, limits, openAPI)
	if err != nil {
		return err
	}
	web := logged(withCORS(settings.CORSOrigins, guarded(settings, api)))
	server := newServer(calls, bounded(settings.MaxRequests, byProtocol(grpcServer, web)), settings.SlowRequest, shown)
	// Clients that check health fail at once on NOT_SERVING; those that connect early wait in the listener instead.
	select {
	case <-known:
	case <-time.After(firstAnswers):
	case <-ctx.Done():
	}
	return serve(ctx, server, listener, settings.Drain, func() {
		healthServer.Shutdown() // every watcher hears NOT_SERVING and goes elsewhere
	}, cutOff)
}

func newServer(calls context.Context, handler http.Handler, slowRequest time.Duration, shown *tls.Config) *http.Server {
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(shown == nil)
	return &http.Server{
		Handler:           handler,
		Protocols:         protocols,
		TLSConfig:         shown,
		ReadHeaderTimeout: slowRequest, // and for the TLS handshake
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		// No WriteTimeout: it would cut answers and downloads off in the middle.
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 1000,
			SendPingTimeout:      30 * time.Second, // finds clients that vanished without a word
			PingTimeout:          10 * time.Second,
		},
		BaseContext: func(net.Listener) context.Context { return calls },
		ErrorLog:    slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn),
	}
}

// byProtocol sends gRPC to the services as it is, and the rest to the HTTP face.
func byProtocol(grpc, web http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isGRPC(r) {
			grpc.ServeHTTP(w, r)
			return
		}
		web.ServeHTTP(w, r)
	})
}

func isGRPC(r *http.Request) bool {
	return r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}

func serve(ctx context.Context, server *http.Server, listener net.Listener, drain time.Duration, stopping, cutOff func()) error {
	failed := make(chan error, 1)
	go func() {
		if server.TLSConfig == nil {
			failed <- server.Serve(listener)
		} else {
			failed <- server.ServeTLS(listener, "", "")
		}
	}()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	stopping()
	slog.Info("stopping", "drain_s", drain.Seconds())
	patience, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	if err := server.Shutdown(patience); err != nil {
		slog.Warn("calls_cut_off", "after_s", drain.Seconds())
		cutOff()
		return server.Close()
	}
	return nil
}

// withCORS lets pages of the given origins call. Without origins no header is sent, and browsers refuse.
func withCORS(origins []string, next http.Handler) http.Handler {
	if len(origins) == 0 {
		return next
	}
	return cors.New(cors.Options{
		AllowedOrigins: origins,
		AllowedMethods: []string{http.MethodGet, http.MethodPost, http.MethodDelete},
		AllowedHeaders: []string{"Accept", "Authorization", "Content-Type", "Grpc-Timeout", "Traceparent", "Tracestate", "X-Api-Key", "X-Murphey-Priority"},
		ExposedHeaders: []string{"Content-Disposition", "Retry-After"},
		MaxAge:         600,
	}).Handler(next)
}
