package rest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// writeError answers with google.rpc.Status as JSON: `{"code", "message", "details"}`. Linking errdetails above is what lets
// the details be written.
func writeError(
	ctx context.Context, mux *runtime.ServeMux, marshaler runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error,
) {
	if limit := stateOf(ctx).tooLarge; limit > 0 {
		stateOf(ctx).drain()
		err = httpError(http.StatusRequestEntityTooLarge, codes.InvalidArgument, "The request's body is over the limit of %d bytes.", limit)
	}
	if events, ok := marshaler.(*serverSentEvents); ok {
		marshaler = events.JSONPb // nothing was streamed yet
	}
	failure := status.Convert(unwrapped(err))
	setRetryAfter(w.Header(), failure)
	if failure.Code() == codes.Unauthenticated {
		// The default handler would put the message here, which is no challenge.
		w = challenging{w}
	}
	runtime.DefaultHTTPErrorHandler(ctx, mux, marshaler, w, r, cleaned(err, failure))
}

func unwrapped(err error) error {
	if withStatus := (*runtime.HTTPStatusError)(nil); errors.As(err, &withStatus) {
		return withStatus.Err
	}
	return err
}

// cleaned tells what is the matter with a body or a query that could not be read, without the decoder's name and odd space.
// An error of a service's has details, and one with an HTTP status of its own is the gateway's; both are as they should be.
func cleaned(err error, failure *status.Status) error {
	withStatus := (*runtime.HTTPStatusError)(nil)
	if failure.Code() != codes.InvalidArgument || len(failure.Details()) > 0 || errors.As(err, &withStatus) {
		return err
	}
	reason := strings.TrimLeft(strings.TrimPrefix(failure.Message(), "proto:"), " \u00a0")
	return status.Error(codes.InvalidArgument, "The request cannot be read: "+reason)
}

// setRetryAfter turns RetryInfo into the header that HTTP clients know, in whole seconds, at least one.
func setRetryAfter(header http.Header, failure *status.Status) {
	for _, detail := range failure.Details() {
		if retry, ok := detail.(*errdetails.RetryInfo); ok {
			seconds := math.Ceil(retry.GetRetryDelay().AsDuration().Seconds())
			header.Set("Retry-After", strconv.Itoa(int(max(seconds, 1))))
		}
	}
}

// challenging writes the Bearer challenge whatever was set before.
type challenging struct{ http.ResponseWriter }

func (c challenging) WriteHeader(code int) {
	c.Header().Set("WWW-Authenticate", "Bearer")
	c.ResponseWriter.WriteHeader(code)
}

// Unwrap lets http.ResponseController find Flush.
func (c challenging) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func writeRoutingError(
	ctx context.Context, mux *runtime.ServeMux, marshaler runtime.Marshaler, w http.ResponseWriter, r *http.Request, code int,
) {
	err := httpError(code, codes.InvalidArgument, "%s %s is not a valid request.", r.Method, r.URL.Path)
	switch code {
	case http.StatusNotFound:
		err = httpError(code, codes.NotFound, "There is nothing at %s; /openapi.json lists the paths.", r.URL.Path)
	case http.StatusMethodNotAllowed:
		err = httpError(code, codes.Unimplemented, "%s does not take %s; /openapi.json lists the methods.", r.URL.Path, r.Method)
	}
	writeError(ctx, mux, marshaler, w, r, err)
}

// httpError is an error with an HTTP status that its gRPC code alone would not give.
func httpError(httpStatus int, code codes.Code, format string, values ...any) error {
	return &runtime.HTTPStatusError{HTTPStatus: httpStatus, Err: status.Error(code, fmt.Sprintf(format, values...))}
}

// invalid is a 400 that names the field at fault, as the services' own errors do.
func invalid(field, format string, values ...any) error {
	message := fmt.Sprintf(format, values...)
	failure, err := status.New(codes.InvalidArgument, message).WithDetails(
		&errdetails.ErrorInfo{Reason: "INVALID_INPUT", Domain: "murphey", Metadata: map[string]string{"service": "gateway"}},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: field, Description: message}}},
	)
	if err != nil {
		return status.Error(codes.InvalidArgument, message)
	}
	return failure.Err()
}
