// Command murphey-gateway is the one address of a mesh: HTTP/JSON, server-sent events, uploads and gRPC on one port.
//
//	murphey-gateway --listen 127.0.0.1:7400 --orchestrator 127.0.0.1:7401 --ingest 127.0.0.1:7404 …
//
// This file only wires: settings, logs, signals, listener, server.
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"google.golang.org/grpc/grpclog"

	"murphey.dev/gateway/internal/server"
	"murphey.dev/gateway/internal/settings"
)

// openAPI is what protoc-gen-openapiv2 wrote.
//
//go:embed gen/murphey.swagger.json
var openAPI []byte

func main() {
	settings, err := settings.Parse(os.Args[1:], os.Getenv)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "murphey-gateway:", err)
		os.Exit(2)
	}
	if err := run(settings); err != nil {
		slog.Error("gateway_failed", "error", err.Error())
		os.Exit(1)
	}
}

func run(settings settings.Settings) error {
	logTo(os.Stderr, settings.LogLevel)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if settings.Supervised {
		ctx = untilEOF(ctx, os.Stdin)
	}
	listener, err := net.Listen("tcp", settings.Listen)
	if err != nil {
		return fmt.Errorf("cannot listen on %s: %w; is another gateway running there?", settings.Listen, err)
	}
	slog.Info("listening", "address", listener.Addr().String(), "targets", settings.Targets)
	return server.Run(ctx, settings, listener, openAPI)
}

// untilEOF ends the context when the reader ends: a supervisor that died has closed its end of the pipe.
func untilEOF(ctx context.Context, reader io.Reader) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, reader)
		slog.Info("supervisor_gone")
		cancel()
	}()
	return ctx
}

// logTo sends our events, and the errors of the gRPC libraries, as JSON lines.
func logTo(writer io.Writer, level slog.Level) {
	handler := slog.NewJSONHandler(writer, &slog.HandlerOptions{Level: level, ReplaceAttr: likeTheServices})
	slog.SetDefault(slog.New(handler).With("service", "gateway"))
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, libraryErrors{}))
}

// likeTheServices names the keys and levels as the logs of the Python services do.
func likeTheServices(groups []string, attribute slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return attribute
	}
	switch attribute.Key {
	case slog.MessageKey:
		attribute.Key = "event"
	case slog.TimeKey:
		attribute.Key = "timestamp"
	case slog.LevelKey:
		attribute.Value = slog.StringValue(strings.ToLower(strings.Replace(attribute.Value.String(), "WARN", "WARNING", 1)))
	}
	return attribute
}

type libraryErrors struct{}

func (libraryErrors) Write(line []byte) (int, error) {
	slog.Warn("grpc_library", "detail", strings.TrimSpace(string(line)))
	return len(line), nil
}
