package server

import (
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// tryAgainAfter is what a refused caller is told to wait.
const tryAgainAfter = time.Second

// bounded refuses requests of either protocol at once while so many are under way, before anything of them is read. Health
// checks always get through. What a service itself can take is its own affair: it knows what a request costs.
func bounded(most int, next http.Handler) http.Handler {
	places := make(chan struct{}, most)
	refusal := overloaded(most)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" || strings.HasPrefix(r.URL.Path, "/grpc.health.v1.Health/") {
			next.ServeHTTP(w, r)
			return
		}
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
			next.ServeHTTP(w, r)
		default:
			refuseOverload(w, r, refusal)
		}
	})
}

func overloaded(most int) *status.Status {
	refusal := status.Newf(codes.ResourceExhausted, "The gateway has %d requests under way, which is the most. Try again in a moment.", most)
	detailed, err := refusal.WithDetails(
		&errdetails.ErrorInfo{Reason: "OVERLOADED", Domain: "murphey", Metadata: map[string]string{"service": "gateway"}},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(tryAgainAfter)},
	)
	if err != nil {
		return refusal
	}
	return detailed
}

// refuseOverload answers in the caller's protocol; to gRPC with headers alone, which hold the status.
func refuseOverload(w http.ResponseWriter, r *http.Request, refusal *status.Status) {
	if isGRPC(r) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", strconv.Itoa(int(refusal.Code())))
		w.Header().Set("Grpc-Message", refusal.Message())
		if details, err := proto.Marshal(refusal.Proto()); err == nil {
			w.Header().Set("Grpc-Status-Details-Bin", base64.RawStdEncoding.EncodeToString(details))
		}
		w.WriteHeader(http.StatusOK)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Retry-After", strconv.Itoa(int(tryAgainAfter.Seconds())))
	w.WriteHeader(http.StatusTooManyRequests)
	if body, err := protojson.Marshal(refusal.Proto()); err == nil {
		_, _ = w.Write(body)
	}
}
